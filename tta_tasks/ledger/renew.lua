-- Renews the lease of a running task.
-- args: prefix, retention, lease, task_id, queue, worker
--
-- Returns 1 if the worker still executes it.
--#include _tasks
--#include _next_check
--#include _now

-- The worker may have gone on with another task meanwhile, on this one's message.
local id = redis.call('HGET', key_of(task_id), '_then') or task_id
local task = read(key_of(id), 'status', 'worker', 'deadline')
if task.status ~= 'running' or task.worker ~= worker then return 0 end
local lease_until = now + lease
redis.call('HSET', key_of(id), 'lease_until', lease_until)
redis.call('ZADD', prefix .. 'open:' .. queue, next_check(task, lease_until), id)
redis.call('ZADD', prefix .. 'running:' .. queue, lease_until, id)
redis.call('EXPIRE', key_of(id), retention)
return 1
