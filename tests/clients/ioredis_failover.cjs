// A service with ioredis as it comes, that counts, pushes and adds while Redis behind the proxy fails and comes back. What
// was acknowledged is there once, what was refused is not, and ioredis never has to reconnect.
'use strict'
const assert = require('node:assert/strict')
const readline = require('node:readline')
const Redis = require('ioredis')

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const ask = async (what) => {
  process.stdout.write(`@ ${what}\n`)
  const { done } = await lines.next()
  assert.ok(!done, 'the driving test has gone')
}
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const WORKERS = 4
const KINDS = {
  count: (r) => r.incr('count'),
  push: (r, id) => r.rpush('list', id),
  add: (r, id) => r.sadd('set', id)
}
const fates = { count: [], push: [], add: [] }
let over = false

const work = async (r, worker) => {
  for (let n = 0; !over; n++) {
    for (const [kind, run] of Object.entries(KINDS)) {
      const id = `${worker}:${n}`
      try {
        const reply = await run(r, id)
        fates[kind].push({ id, reply, fate: 'done' })
        if (kind === 'add') assert.equal(reply, 1, `${id} was added before`)
      } catch (error) {
        const unknown = error.message.startsWith('UNKNOWNOUTCOME')
        const refused = /^(UNAVAILABLE|READONLY|LOADING|NOAUTH) /.test(error.message)
        assert.ok(unknown || refused, error.stack)
        fates[kind].push({ id, fate: unknown ? 'unknown' : 'refused' })
        await sleep(2)
      }
    }
  }
}

const ids = (kind, fate) => fates[kind].filter((one) => one.fate === fate).map((one) => one.id)

const check = async (r) => {
  const [done, unknown] = [ids('count', 'done').length, ids('count', 'unknown').length]
  const count = Number(await r.get('count'))
  assert.ok(count >= done && count <= done + unknown, `${count} after ${done}, and perhaps ${unknown}`)
  const replies = fates.count.filter((one) => one.fate === 'done').map((one) => one.reply)
  assert.equal(new Set(replies).size, replies.length, 'a number was given twice')
  for (const [kind, held] of [['push', await r.lrange('list', 0, -1)], ['add', await r.smembers('set')]]) {
    assert.equal(new Set(held).size, held.length, `${kind}: something is there twice`)
    const there = new Set(held)
    for (const id of ids(kind, 'done')) assert.ok(there.has(id), `${kind}: ${id} was acknowledged and is lost`)
    for (const id of ids(kind, 'refused')) assert.ok(!there.has(id), `${kind}: ${id} was refused and is there`)
    const known = new Set(fates[kind].map((one) => one.id))
    for (const id of held) assert.ok(known.has(id), `${kind}: ${id} was never sent`)
  }
  for (let worker = 0; worker < WORKERS; worker++) {
    const pushed = (await r.lrange('list', 0, -1)).filter((id) => id.startsWith(`${worker}:`))
    const numbers = pushed.map((id) => Number(id.split(':')[1]))
    assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b), 'out of order')
  }
  console.log(`${done} acknowledged, ${unknown} unknown, ${ids('count', 'refused').length} refused`)
}

const main = async () => {
  // Nothing but where it is.
  const r = new Redis(Number(process.env.TANDEM_PORT))
  const trouble = []
  for (const event of ['close', 'reconnecting', 'error', 'end']) r.on(event, (error) => trouble.push([event, error]))
  await r.ping()
  const socket = r.stream
  const workers = Array.from({ length: WORKERS }, (_, worker) => work(r, worker))
  for (const [strike, heal] of [['kill redis', 'start redis'], ['pause redis', 'resume redis'], ['kill redis', 'start redis']]) {
    const served = ids('count', 'done').length
    await ask(strike)
    // Somebody else than Redis serves, if one waits a little.
    await sleep(1500)
    const end = Date.now() + 30000
    const more = served + 10 * WORKERS
    while (ids('count', 'done').length < more) {
      assert.ok(Date.now() < end, `nothing is served after: ${strike}`)
      await sleep(20)
    }
    await ask(heal)
    await ask('wait for redis')
  }
  over = true
  await Promise.all(workers)
  await check(r)
  assert.deepEqual(trouble, [])
  assert.equal(r.stream, socket, 'ioredis has reconnected')
  console.log('ok nothing is lost')
  await r.quit()
}
main().then(
  () => process.exit(),
  (error) => {
    console.log(`FAILED: ${error.stack}`)
    process.exit(1)
  }
)
