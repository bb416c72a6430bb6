// Clients of the ws package, driven over standard input and output: a line of JSON for each
// command and for its result, which
// carries the command's Seq. node_test.go holds the other side.
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

const connections = new Map();

// Connection keeps what has arrived until it is asked for, and who asks until something arrives.
class Connection {
  constructor(command) {
    this.arrived = [];
    this.asking = [];
    this.ws = new WebSocket(command.URL, command.Protocols ?? [],
      { perMessageDeflate: command.Deflate, maxPayload: 16 << 20 });
    this.ws.on('message', (data, isBinary) => {
      this.put({ Kind: isBinary ? 'binary' : 'text', Data: data.toString('base64') });
    });
    this.ended = new Promise((resolve) => {
      this.ws.on('close', (code, reason) => {
        const end = { Closed: { Code: code, Reason: reason.toString() } };
        this.end = end;
        resolve(end);
        while (this.asking.length > 0) this.asking.shift()(end);
      });
    });
  }

  put(message) {
    if (this.asking.length > 0) this.asking.shift()(message);
    else this.arrived.push(message);
  }

  receive() {
    if (this.arrived.length > 0) return this.arrived.shift();
    if (this.end) return this.end;
    return new Promise((resolve) => this.asking.push(resolve));
  }

  opened() {
    return new Promise((resolve, reject) => {
      this.ws.on('open', () => resolve({
        Protocol: this.ws.protocol, Deflated: this.ws.extensions.includes('permessage-deflate'),
      }));
      this.ws.on('error', reject);
    });
  }

  sendPart(command, i) {
    const data = Buffer.from(command.Parts[i], 'base64');
    const options = { binary: command.Kind === 'binary', fin: i === command.Parts.length - 1 };
    return new Promise((resolve, reject) => this.ws.send(data, options, (err) => (err ? reject(err) : resolve())));
  }

  ponged() {
    return new Promise((resolve) => {
      this.ws.once('pong', () => resolve({}));
      this.ws.ping();
    });
  }
}

async function perform(command) {
  if (command.Op === 'dial') {
    const c = new Connection(command);
    connections.set(command.Conn, c);
    return c.opened();
  }
  const c = connections.get(command.Conn);
  switch (command.Op) {
    case 'send':
      await Promise.all(command.Parts.map((_, i) => c.sendPart(command, i)));
      return {};
    case 'ping':
      return c.ponged();
    case 'receive':
      return c.receive();
    case 'close':
      c.ws.close(command.Code, command.Reason);
      return c.ended;
    case 'abort':
      connections.delete(command.Conn);
      c?.ws.terminate();
      return {};
  }
  throw new Error(`unknown command ${command.Op}`);
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  let result;
  try {
    result = await perform(command);
  } catch (err) {
    result = { Error: String(err.message || err) };
  }
  process.stdout.write(JSON.stringify({ ...result, Seq: command.Seq }) + '\n');
});
process.stderr.write('ready\n');
