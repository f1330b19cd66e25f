// Node's http2 module as a client. Arguments: port, CA, certificate, key. Prints one word per step.
'use strict';
const crypto = require('crypto'), fs = require('fs'), http2 = require('http2'), net = require('net'), tls = require('tls');

const [port, ca, cert, key] = process.argv.slice(2);
const STRICT = 'api.example.com', OPTIONAL = 'optional.example.com';

function connect(host, certificate) {
  const own = certificate ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
  const session = http2.connect(`https://${host}:${port}`, {
    createConnection: () => tls.connect({
      socket: net.connect(port, '127.0.0.1'), servername: host, ca: fs.readFileSync(ca), ALPNProtocols: ['h2'], ...own,
    }),
  });
  session.setTimeout(20000, () => session.destroy(new Error('timed out')));
  // Each request of the session fails with it, and says so.
  session.on('error', () => {});
  return session;
}

function ask(session, path, { body, trailers, ...fields } = {}) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path, ...fields }, { endStream: body === undefined, waitForTrailers: trailers !== undefined });
    const chunks = [], answer = { interim: [] };
    stream.on('headers', fields => answer.interim.push(fields[':status']));
    stream.on('response', fields => { answer.status = fields[':status']; answer.fields = fields; });
    stream.on('trailers', fields => { answer.trailers = fields; });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('data', chunk => chunks.push(chunk));
    stream.on('end', () => resolve({ ...answer, body: Buffer.concat(chunks) }));
    stream.on('error', reject);
    if (body !== undefined) stream.end(body);
  });
}

// Begins to read a long response and resets its stream.
function abandon(session) {
  return new Promise(resolve => {
    const stream = session.request({ ':path': '/big/5000000' });
    stream.once('data', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    stream.on('close', resolve);
    stream.on('error', () => {});
  });
}

function check(condition, seen) {
  if (!condition) throw new Error(JSON.stringify(seen));
}

(async () => {
  const partner = connect(STRICT, true), anonymous = connect(OPTIONAL, false);
  const words = [
    (await ask(partner, '/a')).status,
    (await ask(anonymous, '/public')).status,
    (await ask(anonymous, '/private')).status,
    // As a browser would that coalesces hosts of one address and certificate.
    (await ask(anonymous, '/public', { ':authority': STRICT })).status,
    await ask(connect(STRICT, false), '/a').then(response => response.status, () => 'refused'),
  ];

  const body = Buffer.alloc(20 << 20, 'ringward'), hash = crypto.createHash('sha256').update(body).digest('hex');
  for (const fields of [{ 'content-length': body.length }, {}, { trailers: { 'x-checksum': hash } }]) {
    const echo = JSON.parse((await ask(partner, '/upload', { ':method': 'POST', body, ...fields })).body);
    check(echo.body_sha256 === hash, echo);
  }
  words.push('upload-ok');

  const paths = Array.from({ length: 100 }, (_, n) => `/big${n % 2 ? '' : '-chunked'}/${100000 + n}`);
  const sizes = (await Promise.all(paths.map(path => ask(partner, path)))).map(response => response.body.length);
  check(sizes.every((size, n) => size === 100000 + n), sizes);
  await Promise.all(Array.from({ length: 5 }, () => abandon(partner)));
  const { trailers } = await ask(partner, '/trailers');
  check(trailers['x-checksum'] === 'ok', trailers);
  check((await ask(partner, '/status/204')).status === 204);
  await new Promise((resolve, reject) => partner.ping(error => error ? reject(error) : resolve()));
  words.push('streams-ok');

  for (const session of [partner, anonymous]) await new Promise(resolve => session.close(resolve));
  console.log(words.join(' '));
})().catch(error => { console.error(error); process.exit(1); });
