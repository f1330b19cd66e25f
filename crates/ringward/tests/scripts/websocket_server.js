// A WebSocket server over HTTP/2 alone (RFC 8441), of Node's http2 and ws, to stand behind the gateway. Prints its port, then one
// line for each connection that has ended.
'use strict';
const http2 = require('http2');
const WebSocket = require('ws');

const HANDLERS = {
  // Sends everything back as it came: text or binary, whole.
  echo: socket => socket.on('message', (message, binary) => socket.send(message, { binary })),

  // Sends each message back in three fragments.
  fragments: socket => socket.on('message', (message, binary) => {
    const third = Math.floor(message.length / 3);
    const parts = [message.subarray(0, third), message.subarray(third, 2 * third), message.subarray(2 * third)];
    parts.forEach((part, n) => socket.send(part, { binary, fin: n === 2 }));
  }),

  // Says who the gateway says is there, and what the client has asked for.
  peer(socket, fields) {
    const [, certificate] = /^:(.+):$/.exec(fields['client-cert'] ?? '') ?? [];
    socket.send(`${certificate ? 'certificate' : 'nobody'} ${fields['x-asked']}`);
    socket.close();
  },

  // Closes as the client wishes.
  close: socket => socket.once('message', message => {
    const [, code, reason] = /^(\d+) (.+)$/.exec(message);
    socket.close(Number(code), reason);
  }),

  // Asks the client whether it is there.
  ping(socket) {
    socket.ping('there?');
    socket.once('pong', () => {
      socket.send('pong');
      socket.close();
    });
  },
};

const server = http2.createServer({ settings: { enableConnectProtocol: true } });
server.on('stream', (stream, fields) => {
  const path = fields[':path'], handler = HANDLERS[path.replace('/ws/', '')];
  if (fields[':protocol'] !== 'websocket' || fields['sec-websocket-version'] !== '13' || !handler) {
    stream.respond({ ':status': 404 }, { endStream: true });
    return;
  }
  const chosen = (fields['sec-websocket-protocol'] ?? '').split(/, */).includes('chat.v2');
  stream.respond({ ':status': 200, ...(chosen ? { 'sec-websocket-protocol': 'chat.v2' } : {}) });
  // What ws makes of an upgraded connection, and of any stream.
  const socket = new WebSocket(null);
  stream.setNoDelay = () => {};
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 8 << 20 });
  socket.on('error', () => {});
  socket.on('close', (code, reason) => console.log(`${path} ${code} ${reason}`.trim()));
  handler(socket, fields);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
