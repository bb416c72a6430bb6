// An echo server of the ws package; websocket_test.go says what it does. It writes lines of JSON
// to standard error: its port once,
// and how each connection ended.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const tell = (what) => process.stderr.write(JSON.stringify(what) + '\n');

const server = createServer();
const sockets = new WebSocketServer({
  server,
  perMessageDeflate: true,
  maxPayload: 16 << 20,
  handleProtocols: (offered) => (offered.has('echo.v2') ? 'echo.v2' : false),
});

sockets.on('connection', (ws, request) => {
  const query = new URL(request.url, 'http://server').searchParams;
  const how = query.get('do');
  ws.on('error', () => {}); // 'close' follows
  ws.on('close', (code, reason) => tell({ ID: query.get('id'), Code: code, Reason: reason.toString() }));
  ws.on('message', (data, isBinary) => {
    if (how === 'close') ws.close(4001, 'served');
    else if (how === 'abort') ws.terminate();
    else ws.send(data, { binary: isBinary });
  });
  if (how === 'greet') for (const m of ['one', 'two', 'three']) ws.send(m);
  if (how === 'ping') {
    ws.once('pong', () => ws.send('pong'));
    ws.ping();
  }
});

server.listen(0, '127.0.0.1', () => tell({ Port: server.address().port }));
