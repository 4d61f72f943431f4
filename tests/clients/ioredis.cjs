// What services do with ioredis, through the proxy on port TANDEM_PORT. The driving test breaks
// things when asked: a line "@ <what>" on stdout is answered by a line on stdin once it is done.
'use strict'
const assert = require('node:assert/strict')
const readline = require('node:readline')
const Redis = require('ioredis')

const port = Number(process.env.TANDEM_PORT)
// With TLS where the driving test says whom to trust.
const ca = process.env.TANDEM_CA
const tls = ca ? { tls: { ca: require('node:fs').readFileSync(ca) } } : {}
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const ask = async (what) => {
  process.stdout.write(`@ ${what}\n`)
  const { done } = await lines.next()
  assert.ok(!done, 'the driving test has gone')
}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const until = async (what, ready) => {
  const end = Date.now() + 15000
  for (;;) {
    try {
      if (await ready()) return
    } catch {
      // The connection is still away.
    }
    assert.ok(Date.now() < end, `${what}: not within 15 s`)
    await sleep(20)
  }
}
const connect = (options = {}) => {
  const client = new Redis({ port, host: '127.0.0.1', ...tls, ...options })
  client.on('error', () => {})
  return client
}

const suites = {
  async 'values of every type'(r) {
    await r.set('s', 'v', 'EX', 100)
    assert.equal(await r.get('s'), 'v')
    assert.ok((await r.ttl('s')) > 90)
    await r.hset('h', { a: 1, b: 'two' })
    assert.deepEqual(await r.hgetall('h'), { a: '1', b: 'two' })
    assert.equal(await r.hincrby('h', 'a', 41), 42)
    await r.rpush('l', 'x', 'y', 'z')
    assert.deepEqual(await r.lrange('l', 0, -1), ['x', 'y', 'z'])
    await r.sadd('set', 'm', 'n')
    assert.deepEqual((await r.smembers('set')).sort(), ['m', 'n'])
    await r.zadd('z', 1.5, 'a', 2, 'b')
    assert.deepEqual(await r.zrange('z', 0, -1, 'WITHSCORES'), ['a', '1.5', 'b', '2'])
    const id = await r.xadd('x', '*', 'f', 'v')
    assert.deepEqual(await r.xrange('x', '-', '+'), [[id, ['f', 'v']]])
  },
  async 'bytes are kept'(r) {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
    await r.set(bytes, bytes)
    assert.deepEqual(await r.getBuffer(bytes), bytes)
    const big = 'x'.repeat(2 << 20)
    await r.set('big', big)
    assert.equal(await r.get('big'), big)
  },
  async 'pipelines and transactions'(r) {
    const pipeline = r.pipeline()
    for (let i = 0; i < 1000; i++) pipeline.incr('n')
    pipeline.lpush('n', 'wrong type')
    const replies = await pipeline.exec()
    assert.deepEqual(replies.slice(0, 1000).map(([, n]) => n), Array.from({ length: 1000 }, (_, i) => i + 1))
    assert.match(replies[1000][0].message, /^WRONGTYPE/)
    const multi = await r.multi().lpush('m', 'a').ltrim('m', 0, 9).expire('m', 60).exec()
    assert.deepEqual(multi, [[null, 1], [null, 'OK'], [null, 1]])
    await r.watch('w')
    const other = connect()
    await other.set('w', 'changed')
    assert.equal(await r.multi().set('w', 'mine').exec(), null)
    await other.quit()
  },
  async 'scripts'(r) {
    r.defineCommand('lease', {
      numberOfKeys: 1,
      lua: "redis.call('zadd', KEYS[1], ARGV[1], ARGV[2]) return redis.call('zcard', KEYS[1])"
    })
    assert.equal(await r.lease('lease', 1, 'a'), 1)
    assert.equal(await r.lease('lease', 2, 'b'), 2)
    await assert.rejects(r.evalsha('0'.repeat(40), 0), /^ReplyError: NOSCRIPT/)
    await assert.rejects(r.eval("return redis.error_reply('ERR own')", 0), /own/)
  },
  async 'publish and subscribe'(r) {
    const subscriber = connect()
    const heard = new Promise((resolve) => subscriber.on('message', (...args) => resolve(args)))
    assert.equal(await subscriber.subscribe('channel'), 1)
    assert.equal(await r.publish('channel', 'hello'), 1)
    assert.deepEqual(await heard, ['channel', 'hello'])
    await subscriber.unsubscribe('channel')
    assert.equal(await subscriber.ping(), 'PONG')
    await subscriber.quit()
  },
  async 'blocking commands hold back nobody else'(r) {
    const blocked = connect()
    const popped = blocked.blpop('queue', 5)
    await sleep(50)
    assert.equal(await r.get('nothing'), null)
    await r.rpush('queue', 'job')
    assert.deepEqual(await popped, ['queue', 'job'])
    await blocked.quit()
  },
  async 'databases and scans'(r) {
    const second = connect({ db: 2, keyPrefix: 'p:' })
    await second.flushdb()
    const names = Array.from({ length: 500 }, (_, i) => `k${i}`)
    await second.mset(names.flatMap((name) => [name, '1']))
    assert.equal(await r.exists('p:k1'), 0)
    const seen = new Set()
    for await (const keys of second.scanStream({ match: 'p:*', count: 100 })) keys.forEach((key) => seen.add(key))
    assert.equal(seen.size, 500)
    await second.quit()
  },
  async 'client commands'(r) {
    const named = connect({ connectionName: 'smoke' })
    assert.equal(await named.client('GETNAME'), 'smoke')
    assert.ok((await named.client('ID')) > 0)
    assert.match(await named.info(), /redis_version:/)
    assert.equal(await named.quit(), 'OK')
  },
  async 'Redis is restarted behind the proxy'() {
    const r = connect({ maxRetriesPerRequest: null })
    await r.set('before', '1')
    const socket = r.stream
    await ask('kill redis')
    // Redis is away: an answer, though an error, comes at once on the same connection.
    const start = Date.now()
    const error = await r.get('before').then(() => null, (e) => e)
    assert.ok(error, 'a read was answered without any Redis')
    assert.ok(Date.now() - start < 5000, 'the error took too long')
    await ask('start redis')
    await until('Redis behind the proxy', async () => (await r.set('after', '2')) === 'OK')
    assert.equal(await r.get('after'), '2')
    assert.equal(r.stream, socket, 'the connection to the proxy was dropped')
    await r.quit()
  },
  async 'the proxy is restarted'() {
    const r = connect({ maxRetriesPerRequest: null, retryStrategy: () => 50 })
    await r.set('sum', '0')
    await ask('restart proxy')
    // Queued while the proxy was away, sent after the reconnect by ioredis itself.
    assert.equal(await r.incr('sum'), 1)
    await r.select(3)
    await r.set('in-three', 'x')
    await ask('restart proxy')
    // What is asked while ioredis reconnects it sends before it selects the database, to any server.
    await until('ioredis to have reconnected', async () => r.status === 'ready')
    assert.equal(await r.get('in-three'), 'x', 'ioredis selects its database again')
    await r.del('in-three')
    await r.quit()
  },
  async 'a subscriber comes back after a restart'(r) {
    const subscriber = connect({ retryStrategy: () => 50 })
    await subscriber.subscribe('again')
    await ask('restart proxy')
    const heard = new Promise((resolve) => subscriber.on('message', (...args) => resolve(args)))
    await until('the new subscription', async () => (await r.publish('again', 'x')) === 1)
    assert.deepEqual(await heard, ['again', 'x'])
    subscriber.disconnect()
  }
}

const main = async () => {
  for (const [name, suite] of Object.entries(suites)) {
    const r = connect({ maxRetriesPerRequest: null, retryStrategy: () => 50 })
    try {
      await r.flushall()
      await suite(r)
      console.log(`ok ${name}`)
    } catch (error) {
      console.log(`FAILED ${name}: ${error.stack}`)
      process.exitCode = 1
    }
    r.disconnect()
  }
  process.exit()
}
main()
