-- Postpones the next check of a parked task, unless it was released or decided since it was read.
-- args: prefix, task_id, due, decided
--
-- decided: 1 if the task had a decision when it was read.
--#include _tasks
--#include _next_check

local task = read(key_of(task_id), 'status', 'decision', 'deadline', 'queue')
if task.status == 'parked' and (task.decision and '1' or '0') == decided then
  redis.call('ZADD', prefix .. 'open:' .. task.queue, 'XX', next_check(task, due), task_id)
end
