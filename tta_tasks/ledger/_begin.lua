--#include _next_check
--#include _now
--#include _tell

-- A worker begins a task, for `lease` seconds. `start` names this start, `fields` are more of the task's own, in pairs.
local lease_until = now + lease
local function begin(id, key, task, fields)
  redis.call('HSET', key, 'status', 'running', 'worker', worker, 'slots', slots, 'progress', '',
             'lease_until', lease_until, '_start', start, 'started_at', task.started_at or now,
             'attempts', (task.attempts or 0) + 1, unpack(fields))
  redis.call('ZADD', prefix .. 'open:' .. task.queue, next_check(task, lease_until), id)
  redis.call('ZADD', prefix .. 'running:' .. task.queue, lease_until, id)
  redis.call('HINCRBY', prefix .. 'counters', 'started:' .. task.stage, 1)
  tell(task.run_id, id, 'running', '', worker)
end
