-- A worker begins a task.
-- args: prefix, retention, max_events, lease,
--       task_id, name, worker, slots, start, redelivered, promoted
--
-- lease: how long it is the worker's without a sign of life, in seconds.
-- start: names this start; the script may be sent twice, when its connection breaks before the answer.
-- redelivered: 1 if the broker delivers its message again.  promoted: 1 if its promotion was checked.
-- Returns what became of it and the task's fields: applied; unknown, mismatch (it has another name), ended, waiting
-- (for other tasks), cancelled (its run was), blocked (what it needs did not end well), busy (a worker executes it),
-- late (its deadline is over), gated (its promotion is to be checked).
--#include _tasks
--#include _ended
--#include _begin

local key = key_of(task_id)
local task = read(key, 'status', 'name', 'unmet', 'run_id', '_blocked', 'lease_until', '_start', 'queue', 'deadline',
                  'stage', 'started_at', 'attempts', 'gated')
if not task.status then return {'unknown'} end

local function refusal()
  if task.name ~= name then return 'mismatch' end
  if ended(task.status) then return 'ended' end
  if tonumber(task.unmet or 0) > 0 then return 'waiting' end
  if task.run_id and redis.call('HGET', prefix .. 'run:' .. task.run_id, 'cancelled') == '1' then return 'cancelled' end
  if task._blocked then return 'blocked' end
  -- A copy of the message, while a worker executes the task: one of them is enough.
  local held = task.status == 'running' and tonumber(task.lease_until or 0) > now
  if held then return task._start == start and 'applied' or 'busy' end
  if task.deadline and now > tonumber(task.deadline) then return 'late' end
  if task.gated == '1' and promoted ~= '1' and not task.started_at then return 'gated' end
end

local refused = refusal()
if refused then return {refused, redis.call('HGETALL', key)} end
if task.status == 'running' then redis.call('HINCRBY', key, 'losses', 1) end
if task.status == 'parked' then redis.call('ZREM', prefix .. 'parked:' .. task.queue, task_id) end
if redelivered == '1' then redis.call('HINCRBY', prefix .. 'counters', 'redelivered:' .. task.stage, 1) end
begin(task_id, key, task, {})
redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or task_id), retention)
return {'applied', redis.call('HGETALL', key)}
