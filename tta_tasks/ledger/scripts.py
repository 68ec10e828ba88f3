"""The ledger's transitions, as Lua: each is one atomic step in Redis.

Terminal statuses are final, and the first one wins. Common arguments: times are seconds since the epoch.
"""

from __future__ import annotations

from typing import Final

from tta_tasks.ledger.counters import EDGES

# KEYS: task, open tasks of its queue.  ARGV: task id, when to look after it, retention, field, value, ...
# Answers 1 when the task is new.
ACCEPT: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
return 1
"""

# Adds ``seconds`` to the histogram ``name`` of the hash KEYS[4]; its buckets are summed up by who reads them.
OBSERVE: Final = f"""
local function observe(name, seconds)
  for _, edge in ipairs({{{", ".join(map(str, EDGES))}}}) do
    if seconds <= edge then
      redis.call('HINCRBY', KEYS[4], name .. ':' .. edge, 1)
      break
    end
  end
  redis.call('HINCRBY', KEYS[4], name .. ':count', 1)
  redis.call('HINCRBYFLOAT', KEYS[4], name .. ':sum', seconds)
end
"""

# KEYS: task, open, events, counters, running, run, parked.
# ARGV: task id, stream, max events, retention, now, new status, worker, payload, due, mark, counter, amount, ...
# new status: running (payload = worker's slots, due = end of the lease, mark = name of this start: it may be sent twice
#   when its connection breaks before the answer); progress (payload = message); queued (payload = why, due = when to
#   look after it, mark = 1 when it was lost while it ran; with a worker only if that one is doing it, without only if
#   nobody holds it); else terminal (payload = result).
# Answers moved, ended, busy or unknown.
MOVE: Final = (
    OBSERVE
    + """
local id, stream, now, new, worker, payload, due = ARGV[1], ARGV[2], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'unknown' end
if status ~= 'queued' and status ~= 'running' and status ~= 'parked' then return 'ended' end
local held = status == 'running' and tonumber(redis.call('HGET', KEYS[1], 'lease_until') or '0') > tonumber(now)
local deadline = redis.call('HGET', KEYS[1], 'deadline')
-- However alive its worker is: a deadline must not go unnoticed.
local look = deadline and math.min(tonumber(deadline), tonumber(due)) or due
local message = ''
if new == 'progress' then
  if status ~= 'running' then return 'ended' end
  redis.call('HSET', KEYS[1], 'progress', payload)
  message = payload
elseif new == 'running' then
  if held and redis.call('HGET', KEYS[1], '_start') == ARGV[10] then return 'moved' end
  -- A copy of the message, while somebody is at work: one of them is enough.
  if held then return 'busy' end
  if status == 'running' then redis.call('HINCRBY', KEYS[1], '_losses', 1) end
  redis.call('HSET', KEYS[1], 'status', new, 'worker', worker, 'slots', payload, 'progress', '', 'lease_until', due,
             '_start', ARGV[10])
  redis.call('HSETNX', KEYS[1], 'started_at', now)
  redis.call('HINCRBY', KEYS[1], 'attempts', 1)
  redis.call('ZADD', KEYS[2], look, id)
  redis.call('ZADD', KEYS[5], due, id)
elseif new == 'queued' then
  if worker == '' and held then return 'busy' end
  if worker ~= '' and (status ~= 'running' or redis.call('HGET', KEYS[1], 'worker') ~= worker) then return 'busy' end
  if status == 'running' and ARGV[10] == '1' then redis.call('HINCRBY', KEYS[1], '_losses', 1) end
  redis.call('HSET', KEYS[1], 'status', new, 'progress', payload, 'lease_until', 0, 'published_at', now)
  redis.call('ZADD', KEYS[2], look, id)
  redis.call('ZREM', KEYS[5], id)
  message = payload
else
  redis.call('HSET', KEYS[1], 'status', new, 'finished_at', now, 'progress', '', 'lease_until', 0, 'result', payload)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[5], id)
  local known = redis.call('HMGET', KEYS[1], 'stage', 'started_at')
  if known[2] then observe('task_seconds:' .. known[1], tonumber(now) - tonumber(known[2])) end
  if redis.call('HEXISTS', KEYS[6], 'left') == 1 then
    local optional = known[1] == 'generation' or known[1] == 'refactoring'
    if new ~= 'completed' and not optional then redis.call('HSET', KEYS[6], 'failed', 1) end
    if redis.call('HINCRBY', KEYS[6], 'left', -1) == 0 then
      local run = redis.call('HMGET', KEYS[6], 'created_at', 'failed', 'cancelled')
      local how = (run[3] == '1' and 'cancelled') or (run[2] and 'failed') or 'completed'
      redis.call('HINCRBY', KEYS[4], 'runs:' .. how, 1)
      observe('run_seconds:' .. how, tonumber(now) - tonumber(run[1]))
    end
  end
end
if status == 'parked' then redis.call('ZREM', KEYS[7], id) end
for i = 11, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[4], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[4], ARGV[4])
redis.call('EXPIRE', KEYS[5], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[3], '*', 'run_id', stream, 'task_id', id, 'at', now, 'what', new,
           'message', message, 'worker', worker)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[3], ARGV[4])
redis.call('EXPIRE', KEYS[6], ARGV[4])
if new ~= 'progress' then redis.call('PUBLISH', KEYS[1], new) end
return 'moved'
"""
)

# KEYS: task, open, running.  ARGV: task id, worker, end of the lease, retention.
RENEW: Final = """
local task = redis.call('HMGET', KEYS[1], 'status', 'worker', 'deadline')
if task[1] ~= 'running' or task[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'lease_until', ARGV[3])
redis.call('ZADD', KEYS[2], task[3] and math.min(tonumber(task[3]), tonumber(ARGV[3])) or ARGV[3], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
