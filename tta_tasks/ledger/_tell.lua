--#include _now

-- Appends an event to the stream of the task's run; a task without a run has a stream of its own.
local function tell(run, id, what, text, by)
  local stream = run or id
  redis.call('XADD', prefix .. 'events:' .. stream, 'MAXLEN', '~', max_events, '*', 'run_id', stream, 'task_id', id,
             'at', now, 'what', what, 'message', text, 'worker', by)
end
