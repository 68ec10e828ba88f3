-- Parks a deployment: it waits for its time, or for a person, without a worker.
-- args: prefix, retention, max_events, task_id, promotion, waits_for, look
--
-- look: within how many seconds the reconciler looks at it.  Returns 1 if it is parked.
--#include _tasks
--#include _next_check
--#include _tell

local key = key_of(task_id)
local task = read(key, 'status', 'deadline', 'decision', 'progress', 'queue', 'run_id')
if task.status ~= 'queued' and task.status ~= 'parked' then return 0 end
local terms = cjson.decode(promotion)
local due = next_check(task, math.min(terms.due, now + look))
-- Decided while a worker looked at it: it must not wait for a decision that was made.
if task.decision and now >= terms.soaked_at then due = now end
redis.call('HSET', key, 'status', 'parked', 'promotion', promotion, 'progress', waits_for)
redis.call('ZADD', prefix .. 'open:' .. task.queue, due, task_id)
redis.call('ZADD', prefix .. 'parked:' .. task.queue, now, task_id)
redis.call('EXPIRE', key, retention)
if task.status ~= 'parked' or task.progress ~= waits_for then
  tell(task.run_id, task_id, 'parked', waits_for, '')
  redis.call('PUBLISH', key, 'parked')
end
redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or task_id), retention)
return 1
