"""What services do with redis-py, in RESP2 and RESP3, through the proxy on port TANDEM_PORT."""

import asyncio
import os
import sys
import threading
import time
import traceback

import redis
import redis.asyncio

PORT = int(os.environ["TANDEM_PORT"])


def connect(protocol, **options):
    return redis.Redis(port=PORT, protocol=protocol, **options)


def values(r, protocol):
    assert r.set("s", b"\x00\xff", px=100_000)
    assert r.get("s") == b"\x00\xff" and 90_000 < r.pttl("s") <= 100_000
    assert r.set("s", "x", nx=True) is None
    r.hset("h", mapping={"a": 1, "b": "two"})
    assert r.hgetall("h") == {b"a": b"1", b"b": b"two"}
    r.zadd("z", {"a": 1.5, "b": float("inf")})
    found = [(member, float(score)) for member, score in r.zrange("z", 0, -1, withscores=True)]
    assert found == [(b"a", 1.5), (b"b", float("inf"))]
    r.sadd("set", *range(10))
    assert len(r.smembers("set")) == 10
    assert r.incrbyfloat("f", 0.1) == 0.1
    r.geoadd("geo", [13.361389, 38.115556, "Palermo"])
    assert r.geopos("geo", "Palermo")[0] is not None
    r.pfadd("hll", *range(100))
    assert 95 < r.pfcount("hll") < 105


def streams(r, protocol):
    ids = [r.xadd("x", {"n": n}) for n in range(3)]
    r.xgroup_create("x", "g", id="0")
    reply = r.xreadgroup("g", "c", {"x": ">"}, count=2)
    assert reply and r.xpending("x", "g")["pending"] == 2
    assert r.xack("x", "g", ids[0]) == 1
    assert r.xlen("x") == 3


def pipelines(r, protocol):
    with r.pipeline(transaction=False) as pipe:
        for _ in range(1000):
            pipe.incr("n")
        assert pipe.execute() == list(range(1, 1001))

    def double(pipe):
        n = int(pipe.get("n"))
        pipe.multi()
        pipe.set("n", n * 2)

    assert r.transaction(double, "n") == [True]
    assert r.get("n") == b"2000"


def watch_fails(r, protocol):
    with r.pipeline() as pipe:
        pipe.watch("w")
        connect(protocol).set("w", 1)
        pipe.multi()
        pipe.set("w", 2)
        try:
            pipe.execute()
        except redis.WatchError:
            return
    raise AssertionError("EXEC went through although the key had changed")


def scripts_and_errors(r, protocol):
    add = r.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
    assert add(keys=["k"], args=[5]) == 5
    r.script_flush()
    assert add(keys=["k"], args=[5]) == 10
    for call in (lambda: r.lpush("k", 1), lambda: r.execute_command("NOSUCH")):
        try:
            call()
        except redis.ResponseError:
            continue
        raise AssertionError("no error")


def lock(r, protocol):
    with r.lock("lock", timeout=10):
        assert not connect(protocol).lock("lock", timeout=10).acquire(blocking=False)
    assert r.get("lock") is None


def publish(r, protocol):
    listener = r.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("news.*")
    deadline = time.time() + 5
    while r.publish("news.a", "x") != 1:
        assert time.time() < deadline
    message = None
    while message is None:
        assert time.time() < deadline
        message = listener.get_message(timeout=1)
    assert (message["channel"], message["data"]) == (b"news.a", b"x")
    listener.close()


def blocking(r, protocol):
    got = []
    thread = threading.Thread(target=lambda: got.append(connect(protocol).blpop("q", timeout=5)))
    thread.start()
    time.sleep(0.05)
    r.rpush("q", "job")
    thread.join()
    assert list(got[0]) == [b"q", b"job"]


def databases(r, protocol):
    two = connect(protocol, db=2, client_name="two")
    two.flushdb()
    two.set("only-in-two", 1)
    assert two.client_getname() in ("two", b"two")
    assert not r.exists("only-in-two") and list(two.scan_iter("only*")) == [b"only-in-two"]


def many_connections(r, protocol):
    def work(index):
        mine = connect(protocol)
        for n in range(100):
            assert mine.incr(f"own:{index}") == n + 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sum(map(int, r.mget([f"own:{index}" for index in range(20)]))) == 2000


def asynchronous(r, protocol):
    async def run():
        async with redis.asyncio.Redis(port=PORT, protocol=protocol) as client:
            await asyncio.gather(*(client.incr("async") for _ in range(50)))
            assert await client.get("async") == b"50"

    asyncio.run(run())


SUITES = [values, streams, pipelines, watch_fails, scripts_and_errors, lock, publish, blocking]
SUITES += [databases, many_connections, asynchronous]

failed = False
for protocol in (2, 3):
    for suite in SUITES:
        client = connect(protocol)
        try:
            client.flushall()
            suite(client, protocol)
            print(f"ok RESP{protocol} {suite.__name__}")
        except Exception:
            failed = True
            print(f"FAILED RESP{protocol} {suite.__name__}: {traceback.format_exc()}")
        client.close()
sys.exit(failed)
