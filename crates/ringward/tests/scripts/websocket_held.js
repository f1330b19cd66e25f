// Holds two WebSockets of one client, an idle and a busy one; its arguments are those of websocket_open.js. Prints `open`, then
// `cut` and the code of each when both have been cut, or `alive` if it is told to end (SIGTERM) and both still work.
'use strict';
const { echoed, open } = require('./websocket_open.js');

function ended(socket) {
  socket.on('error', () => {});
  return new Promise(resolve => socket.once('close', resolve));
}

(async () => {
  const idle = await open('/ws/echo'), busy = await open('/ws/echo');
  await echoed(idle, ['there?']);
  let asked = false;
  Promise.all([ended(idle), ended(busy)]).then(codes => {
    console.log(asked ? 'alive' : `cut ${codes.join(' ')}`);
    process.exit(0);
  });
  process.once('SIGTERM', () => { asked = true; });
  console.log('open');
  while (!asked) await echoed(busy, ['there?']);
  await echoed(idle, ['there?']);
  for (const socket of [idle, busy]) socket.close();
})().catch(error => { console.error(error); process.exit(1); });
