// Node's ws as a client; its arguments are those of websocket_open.js. Prints one word per step.
'use strict';
const { once } = require('events');
const { check, echoed, open, receive } = require('./websocket_open.js');

async function closed(socket) {
  const [code, reason] = await once(socket, 'close');
  return `${code} ${reason}`.trim();
}

function refusal(options) {
  return open('/ws/echo', options).then(() => 'open', error => /response: (\d+)/.exec(error.message)?.[1] ?? 'refused');
}

async function converse(number) {
  const socket = await open('/ws/echo');
  for (let turn = 0; turn < 10; turn++) await echoed(socket, [`${number}/${turn}`]);
  socket.close();
  await closed(socket);
}

(async () => {
  const words = [];
  const peer = await open('/ws/peer', { headers: { 'client-cert': 'forged', 'x-asked': 'this' } });
  words.push(`${(await receive(peer)).message}`);
  await closed(peer);

  const large = Buffer.alloc(1 << 20, 'ringward');
  for (const perMessageDeflate of [false, true]) {
    const socket = await open('/ws/echo', { perMessageDeflate, protocols: ['chat.v1', 'chat.v2'] });
    check(socket.protocol === 'chat.v2', socket.protocol);
    for (const parts of [[''], ['wörds'], [Buffer.alloc(0)], ['in ', 'three ', 'parts'], [large.subarray(0, 1), large]]) {
      await echoed(socket, parts);
    }
    await echoed(socket, [large.toString()]);
    socket.ping('there?');
    check(`${(await once(socket, 'pong'))[0]}` === 'there?');
    socket.close();
    await closed(socket);
  }
  words.push('echo-ok');
  const fragments = await open('/ws/fragments');
  await echoed(fragments, ['fragments of a text']);
  await echoed(fragments, [large]);
  // Not one message after the other.
  const messages = Array.from({ length: 50 }, (_, n) => `${n}`.repeat(10000));
  messages.forEach(message => fragments.send(message));
  for (const message of messages) check(`${(await receive(fragments)).message}` === message, message.length);
  fragments.close();
  await closed(fragments);
  words.push('fragments-ok');
  words.push(`${(await receive(await open('/ws/ping'))).message}`);

  const dismissed = await open('/ws/close');
  dismissed.send('4001 enough of it');
  words.push(await closed(dismissed));
  const leaving = await open('/ws/echo');
  leaving.close(4002, 'had enough');
  words.push((await closed(leaving)).split(' ')[0]);
  await Promise.all(Array.from({ length: 30 }, (_, number) => converse(number)));
  words.push('concurrent-ok');

  words.push(await refusal({ host: 'optional.example.com', certificate: false }));
  words.push(await refusal({ certificate: false }));
  console.log(words.join(', '));
  process.exit(0);
})().catch(error => { console.error(error); process.exit(1); });
