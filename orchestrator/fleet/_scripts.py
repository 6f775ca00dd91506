"""The scripts with which an instance writes to Redis, each in one step.

Two know the mark: the last sequence of an incarnation that Redis knows. So a broken reply, a lost
tail, a replica that lags behind and FLUSHALL are all healed in one way: the publisher learns the
mark, and goes on from there.
"""

_MARK = """
local function mark_of(incarnation)
  local value = redis.call('HGET', KEYS[1], incarnation)
  local mark = tonumber(string.match(value or '', '^%d+') or '0')
  return mark < 9007199254740992 and mark or 0
end
"""
# What Redis has in the hash may be anything, and must not end the script. HGET of what is missing
# gives false.

APPEND = (
    _MARK
    + """
local mark = mark_of(ARGV[1])
if mark ~= tonumber(ARGV[2]) then return mark end
local fields = tonumber(ARGV[6])
for i = 7, #ARGV, fields do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, i, i + fields - 1))
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[4])
return tonumber(ARGV[3])
"""
)
"""Append changes if they follow on the mark; otherwise change nothing. Returns the mark.

KEYS: instances, events. ARGV: incarnation, the mark on which they follow, the mark afterwards, the
state afterwards, how long the stream may be, how many words an entry has, and the entries' words.
"""

BEAT = (
    _MARK
    + """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local held = redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[2], string.format('%.6f', now + ARGV[2]), ARGV[1])
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[3], 'LIMIT', 0, 16)
if #old > 0 then
  redis.call('ZREM', KEYS[2], unpack(old))
  redis.call('HDEL', KEYS[1], unpack(old))
end
local mark = mark_of(ARGV[1])
if ARGV[5] and mark == tonumber(ARGV[4]) then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. ' ' .. ARGV[5])
end
local alive = redis.call('ZCOUNT', KEYS[2], string.format('(%.6f', now), '+inf')
return {mark, alive, held, string.format('%.6f', now)}
"""
)
# ZREM comes first, as a Redis that is full refuses the first command of a script that could take
# memory, and none after one that writes. So instances stay alive there, and say what is the matter:
# a lease and a state take the place of those before them. Changes have to wait.
"""Renew the lease, sweep what ended long ago, and write the state if it is news.

KEYS: instances, leases. ARGV: incarnation, for how many seconds it lives (0 for one that is stuck,
or leaves), after how many seconds ended leases and their states are removed; and, if the state is
to be written, the mark that it belongs to, and the state. Returns the mark, how many are alive,
whether it had a lease, ended or not, and Redis' time in Unix seconds.
"""

ADOPT = """
local time = redis.call('TIME')
for _, one in ipairs(redis.call('HRANDFIELD', KEYS[1], ARGV[1])) do
  if not redis.call('ZSCORE', KEYS[2], one) then redis.call('ZADD', KEYS[2], time[1], one) end
end
"""
"""Give a lease that ends now to some of the states that have none.

KEYS: instances, leases. ARGV: how many states to look at.
"""
