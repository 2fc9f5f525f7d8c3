"""Scenario I5: redis-py through a forwarded port (given as a string), with a password, in database 2."""
import sys

import redis

conn = redis.StrictRedis(host="localhost", port=sys.argv[1], password=sys.argv[2], db=2)
memory = conn.info(section="memory")
assert isinstance(memory, dict) and memory["used_memory"] > 0, memory
assert conn.set("test", "Hello World!") is True
assert conn.get("test") == b"Hello World!"
assert conn.delete("test") == 1
assert conn.get("test") is None

try:
    redis.StrictRedis(host="localhost", port=int(sys.argv[1])).ping()
    raise SystemExit("a connection without the password was served")
except redis.AuthenticationError:
    pass
try:
    redis.StrictRedis(host="localhost", port=int(sys.argv[1]), password="wrong").ping()
    raise SystemExit("a wrong password was accepted")
except redis.AuthenticationError:
    pass
