"""The ledger's transitions, as Lua: each is one atomic step in Redis.

Terminal statuses are final, and the first one wins. Common arguments: times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

# KEYS: task, open tasks of its queue.  ARGV: task id, when to look after it, retention, field, value, ...
# Answers 1 when the task is new.
ACCEPT: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
"""

# KEYS: task, open, events.  ARGV: task id, stream, max events, retention, now, new status, worker, payload, due, again.
# new status: running (payload = worker's slots, due = end of the lease, again = 1 when the broker delivers it again),
#   progress (payload = message), queued (payload = why, due = when to look after it), else terminal (payload = result).
# Answers moved, ended, busy or unknown.
MOVE: Final = """
local id, stream, now, new, worker, payload, due = ARGV[1], ARGV[2], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status ~= 'queued' and status ~= 'running' then return 'ended' end
local message = ''
if new == 'progress' then
  if status ~= 'running' then return 'ended' end
  redis.call('HSET', KEYS[1], 'progress', payload)
  message = payload
elseif new == 'running' then
  local lease = tonumber(redis.call('HGET', KEYS[1], 'lease_until') or '0')
  -- A copy of the message, while somebody is at work: one of them is enough. When the broker delivers the message
  -- itself again, whoever held it has lost it.
  if status == 'running' and lease > tonumber(now) and ARGV[10] ~= '1' then return 'busy' end
  redis.call('HSET', KEYS[1], 'status', new, 'worker', worker, 'slots', payload, 'progress', '', 'lease_until', due)
  redis.call('HSETNX', KEYS[1], 'started_at', now)
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
  redis.call('ZADD', KEYS[2], due, id)
elseif new == 'queued' then
  redis.call('HSET', KEYS[1], 'status', new, 'progress', payload, 'lease_until', 0, 'published_at', now)
  redis.call('ZADD', KEYS[2], due, id)
  message = payload
else
  redis.call('HSET', KEYS[1], 'status', new, 'finished_at', now, 'progress', '', 'lease_until', 0, 'result', payload)
  redis.call('ZREM', KEYS[2], id)
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'run_id', stream, 'task_id', id, 'at', now, 'what', new,
           'message', message, 'worker', worker)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
if new ~= 'progress' then redis.call('PUBLISH', KEYS[1], new) end
return 'moved'
"""

# KEYS: task, open.  ARGV: task id, worker, end of the lease, retention.
RENEW: Final = """
local task = redis.call('HMGET', KEYS[1], 'status', 'worker')
if task[1] ~= 'running' or task[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'lease_until', ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
