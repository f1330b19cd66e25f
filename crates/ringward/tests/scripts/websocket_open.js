// How Node's ws opens sockets here: with a connection for each, or with all of them on one of HTTP/2 (RFC 8441) if the fifth
// argument of the script says so: `h2`. The others: port, CA, certificate, key.
'use strict';
const fs = require('fs'), http2 = require('http2'), net = require('net'), tls = require('tls');
const { on, once } = require('events');
const WebSocket = require('ws');

const [port, ca, cert, key, protocol] = process.argv.slice(2);

async function open(path, { host = 'api.example.com', certificate = true, ...options } = {}) {
  const own = certificate ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
  const credentials = { ca: fs.readFileSync(ca), ...own };
  return (protocol === 'h2' ? openOnHttp2 : openAlone)(path, host, credentials, options);
}

async function openAlone(path, host, credentials, { protocols = [], ...options }) {
  const lookup = (_, { all }, found) => (all ? found(null, [{ address: '127.0.0.1', family: 4 }]) : found(null, '127.0.0.1', 4));
  const socket = collect(new WebSocket(`wss://${host}:${port}${path}`, protocols, {
    handshakeTimeout: 20000, lookup, perMessageDeflate: false, ...credentials, ...options,
  }));
  await once(socket, 'open');
  return socket;
}

const sessions = {};

async function connect(host, credentials) {
  const session = http2.connect(`https://${host}:${port}`, {
    createConnection: () => tls.connect({
      socket: net.connect(port, '127.0.0.1'), servername: host, ALPNProtocols: ['h2'], ...credentials,
    }),
  });
  // What it fails with, its ping fails with as well.
  session.on('error', () => {});
  await once(session, 'connect');
  // Its settings come before its answer to a ping, and say whether such requests are allowed.
  await new Promise((resolve, reject) => session.ping(error => (error ? reject(error) : resolve())));
  check(session.remoteSettings.enableConnectProtocol, session.remoteSettings);
  return session;
}

async function openOnHttp2(path, host, credentials, { protocols = [], headers = {} }) {
  const session = await (sessions[[host, !!credentials.cert]] ??= connect(host, credentials));
  const stream = session.request({
    ':method': 'CONNECT', ':protocol': 'websocket', ':path': path, 'sec-websocket-version': 13,
    ...(protocols.length > 0 ? { 'sec-websocket-protocol': protocols.join(', ') } : {}), ...headers,
  });
  const [fields] = await once(stream, 'response');
  if (fields[':status'] !== 200) throw new Error(`response: ${fields[':status']}`);
  // It can only make connections of its own, but goes on with any stream when it has been told that it is a client.
  const socket = collect(new WebSocket(null));
  stream.setNoDelay = () => {};
  socket._isServer = false;
  socket._protocol = fields['sec-websocket-protocol'] ?? '';
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 8 << 20 });
  return socket;
}

// Keeps messages until somebody asks for them.
function collect(socket) {
  socket.messages = on(socket, 'message');
  return socket;
}

async function receive(socket) {
  const [message, isBinary] = (await socket.messages.next()).value;
  return { message, isBinary };
}

async function echoed(socket, parts) {
  parts.forEach((part, n) => socket.send(part, { fin: n === parts.length - 1 }));
  const { message, isBinary } = await receive(socket);
  const whole = Buffer.concat(parts.map(part => Buffer.from(part)));
  check(message.equals(whole) && isBinary === (typeof parts[0] !== 'string'), [message.length, whole.length, isBinary]);
}

function check(condition, seen) {
  if (!condition) throw new Error(JSON.stringify(seen));
}

module.exports = { check, echoed, open, receive };
