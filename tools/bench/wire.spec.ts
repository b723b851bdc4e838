import { createServer, type Server } from 'node:net';
import { headersOf, requestOf, Wire } from './wire';

describe('a connection of the load generator', () => {
  let server: Server;
  let url: string;
  /** What the server sends for the next request, piece by piece. */
  let pieces: string[] = [];
  const seen: string[] = [];

  beforeAll(async () => {
    server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => {
        seen.push(chunk.toString());
        void (async () => {
          for (const piece of pieces) {
            socket.write(piece);
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
        })();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  });
  afterAll(() => void server.close());

  it('reads answers however they are cut, one after the other', async () => {
    const wire = await Wire.open(url);
    pieces = ['HTTP/1.1 201 Cre', 'ated\r\nContent-Length: 7\r\n', '\r\n{"a":', '1}'];
    const request = requestOf('POST', '/x', headersOf({ authorization: 'Bearer k' }), { b: 'ü' });
    expect(await wire.send(request)).toEqual({ status: 201, text: '{"a":1}' });
    expect(seen.at(-1)).toContain(
      'authorization: Bearer k\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n',
    );
    pieces = ['HTTP/1.1 409 Conflict\r\ncontent-length: 0\r\n\r\n'];
    expect(await wire.send(requestOf('GET', '/y', headersOf({})))).toEqual({ status: 409, text: '' });
    wire.close();
  });

  it('does not wait for what will never come', async () => {
    const wire = await Wire.open(url);
    pieces = ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'];
    await expect(wire.send(requestOf('GET', '/', headersOf({})))).rejects.toThrow('without a length');
    wire.close();
  });
});
