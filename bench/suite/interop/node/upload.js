// Sends uploads that are refused and prints what came of each: node upload.js CLIENT URL BYTES RUNS
import http from 'node:http'
import https from 'node:https'
import axios from 'axios'

const [client, url, bytes, runs] = process.argv.slice(2)
const body = Buffer.alloc(Number(bytes), 'x')

// request sends the body in pieces, by chunks or with its length, or in one.
function request(pieces, headers) {
  return new Promise((resolve, reject) => {
    const module = url.startsWith('https:') ? https : http
    const req = module.request(url, { method: 'POST', headers }, (res) => {
      res.on('error', reject)
      res.on('end', () => resolve(res.statusCode))
      res.resume()
    })
    req.on('error', reject)
    if (pieces === 1) {
      req.end(body)
      return
    }
    const length = Math.ceil(body.length / pieces)
    const write = (at) => {
      if (at >= body.length) {
        req.end()
        return
      }
      req.write(body.subarray(at, at + length), () => write(at + length))
    }
    write(0)
  })
}

const clients = {
  http: () => request(1, { 'content-length': body.length }),
  pieces: () => request(64, { 'content-length': body.length }),
  chunks: () => request(64, {}),
  fetch: async () => {
    const res = await fetch(url, { method: 'POST', body })
    await res.arrayBuffer()
    return res.status
  },
  axios: async () => {
    const res = await axios.post(url, body, { maxBodyLength: Infinity, validateStatus: () => true })
    return res.status
  },
}

for (let run = 0; run < Number(runs); run++) {
  try {
    console.log(await clients[client]())
  } catch (e) {
    console.log(`${e.code ?? e.cause?.code} ${e.message}`)
  }
}
process.exit() // the agents keep connections
