-- Records a task's progress, or puts it back into its queue.
-- args: prefix, retention, max_events,
--       task_id, status, worker, payload, delay, lost, counters...
--
-- status: progress (payload = message) or queued (payload = why, delay = in how many seconds the reconciler
-- looks at it; with a worker only if that one executes it, without only if no worker holds it).
-- lost: 1 if it was lost while it ran.
-- Returns applied, ended, busy or unknown.
--#include _tasks
--#include _ended
--#include _next_check
--#include _tell
--#include _count

local key = key_of(task_id)
local task = read(key, 'status', 'lease_until', 'deadline', 'queue', 'run_id', 'worker', 'started_at')
if not task.status then return 'unknown' end
if ended(task.status) then return 'ended' end

if status == 'progress' then
  if task.status ~= 'running' then return 'ended' end
  redis.call('HSET', key, 'progress', payload)
else
  local held = task.status == 'running' and tonumber(task.lease_until or 0) > now
  if worker == '' and held then return 'busy' end
  if worker ~= '' and (task.status ~= 'running' or task.worker ~= worker) then return 'busy' end
  if task.status == 'running' and lost == '1' then redis.call('HINCRBY', key, 'losses', 1) end
  redis.call('HSET', key, 'status', status, 'progress', payload, 'lease_until', 0, 'published_at', now)
  redis.call('ZADD', prefix .. 'open:' .. task.queue, next_check(task, now + delay), task_id)
  redis.call('ZREM', prefix .. 'running:' .. task.queue, task_id)
  if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. task.queue, task_id) end
  redis.call('PUBLISH', key, status)
end
count(counters)
tell(task.run_id, task_id, status, payload, worker)
redis.call('EXPIRE', key, retention)
if not task.started_at then redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or task_id), retention) end
return 'applied'
