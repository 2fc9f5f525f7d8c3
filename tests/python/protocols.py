"""redis-py over RESP2 and RESP3: handshake, types, pipelines, transactions, pub/sub, blocking, scanning."""
import sys
import threading
import time

import redis

PORT = int(sys.argv[1])
# As long as nothing is wrong, nothing takes this many seconds.
PATIENCE = 10


def basics(r):
    r.flushall()
    assert r.ping() is True
    assert r.set("s", "v", ex=100) is True and 0 < r.ttl("s") <= 100
    assert r.set("s", "w", nx=True) is None and r.set("s", "w", get=True) == "v"
    assert r.mset({f"k{i}": i for i in range(20)}) is True
    assert r.mget([f"k{i}" for i in range(20)]) == [str(i) for i in range(20)]
    assert r.hset("h", mapping={"a": 1, "b": 2}) == 2 and r.hgetall("h") == {"a": "1", "b": "2"}
    assert r.sadd("set", "x", "y") == 2 and set(r.smembers("set")) == {"x", "y"}
    assert r.zadd("z", {"one": 1, "two": 2.5}) == 2
    assert [list(pair) for pair in r.zrange("z", 0, -1, withscores=True)] == [["one", 1.0], ["two", 2.5]]
    assert r.zscore("z", "two") == 2.5
    assert r.rpush("l", *range(5)) == 5 and r.lrange("l", 0, -1) == ["0", "1", "2", "3", "4"]
    assert r.geoadd("g", (13.361389, 38.115556, "Palermo")) == 1
    assert r.pfadd("p", "a", "b") == 1 and r.pfcount("p") == 2
    assert r.object("encoding", "k1") == "int"
    assert sorted(r.scan_iter("k*", count=3)) == sorted(f"k{i}" for i in range(20))
    assert r.dbsize() == 27, r.dbsize()
    assert r.type("z") == "zset"
    info = r.info()
    assert info["redis_version"].startswith("7.") and info["role"] == "master", info
    assert r.config_get("maxmemory*")["maxmemory"] == "0"
    assert r.client_setname("py") and r.client_getname() == "py"
    assert any(c["name"] == "py" for c in r.client_list())
    assert r.memory_usage("k1") > 0
    assert isinstance(r.time(), tuple)
    assert r.command_count() > 100
    try:
        r.lpush("s", 1)
        raise SystemExit("LPUSH on a string succeeded")
    except redis.ResponseError as error:
        assert "WRONGTYPE" in str(error) or "wrong kind of value" in str(error), error


def pipelines(r):
    with r.pipeline(transaction=False) as p:
        for i in range(1000):
            p.set(f"pipe:{i}", i)
            p.get(f"pipe:{i}")
        replies = p.execute()
    assert replies[1::2] == [str(i) for i in range(1000)]
    with r.pipeline() as p:
        p.incr("n").incr("n").get("n")
        assert p.execute() == [1, 2, "2"]
    with r.pipeline() as p:
        p.watch("n")
        r.incr("n")
        p.multi()
        p.set("n", 0)
        try:
            p.execute()
            raise SystemExit("a changed watched key went unnoticed")
        except redis.WatchError:
            pass
    assert r.transaction(lambda p: (p.multi(), p.incr("n")), "n") == [4]


def publish_and_subscribe(r):
    p = r.pubsub()
    p.subscribe("news")
    p.psubscribe("sp*")
    deadline = time.time() + PATIENCE
    confirmed = 0
    while confirmed < 2 and time.time() < deadline:
        message = p.get_message(timeout=1)
        confirmed += message is not None and message["type"] in ("subscribe", "psubscribe")
    assert r.publish("news", "hello") == 1 and r.publish("sport", "goal") == 1
    seen = []
    while len(seen) < 2 and time.time() < deadline:
        message = p.get_message(timeout=1)
        if message:
            seen.append((message["type"], message["channel"], message["data"]))
    assert seen == [("message", "news", "hello"), ("pmessage", "sport", "goal")], seen
    p.close()


def blocking(r, other):
    answer = []
    waiter = threading.Thread(target=lambda: answer.append(r.blpop(["b1", "b2"], timeout=PATIENCE)))
    waiter.start()
    deadline = time.time() + PATIENCE
    while other.info("clients")["blocked_clients"] == 0 and time.time() < deadline:
        time.sleep(0.005)
    other.rpush("b2", "served")
    waiter.join(PATIENCE)
    assert [list(a) for a in answer] == [["b2", "served"]], answer
    assert r.blpop("nothing", timeout=0.05) is None


for protocol in (2, 3):
    r, other = (redis.Redis(port=PORT, protocol=protocol, decode_responses=True, socket_timeout=PATIENCE + 5) for _ in range(2))
    basics(r)
    pipelines(r)
    publish_and_subscribe(r)
    blocking(r, other)
    r.flushall()
