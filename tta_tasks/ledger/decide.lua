-- Records a person's decision on a deployment, if it is the first.
-- args: prefix, retention, max_events, grace, task_id, decision, outcome, message, user, approval
--
-- grace: in how many seconds the reconciler looks at the task, should it be released.
-- user: as whom Redis knows the caller; approval: what is approved, in words that the worker makes, too.
-- Returns what became of the decision, and the decision that counts.
--#include _tasks
--#include _ended
--#include _tell

local key = key_of(task_id)
local task = read(key, 'status', 'promotion', 'decision', 'queue', 'run_id')
if not task.status then return {'unknown', ''} end
if task.decision then return {'decided', task.decision} end
if ended(task.status) then return {'ended', ''} end
if not task.promotion then return {'early', ''} end
if task.status == 'running' then return {'begun', ''} end
local promotion = cjson.decode(task.promotion)
if outcome == 'approved' then
  if not promotion.approval then return {'unneeded', ''} end
  if now > promotion.expires_at then return {'expired', ''} end
  local approvers = promotion.approvers or {}
  local listed = #approvers == 0
  for _, each in ipairs(approvers) do listed = listed or each == user end
  if not listed then return {'stranger', ''} end
  if #approvers > 0 then
    -- Not below the prefix: Redis lets each user write below its own name only. Refused, nothing else is written.
    local left = math.max(0, math.ceil(promotion.soaked_at - now))
    redis.call('SET', 'approval:' .. prefix .. user .. ':' .. task_id, approval, 'EX', retention + left)
  end
end
redis.call('HSET', key, 'decision', decision)
local answer = 'recorded'
if outcome == 'rejected' then
  redis.call('ZADD', prefix .. 'open:' .. task.queue, now, task_id)
elseif task.status == 'parked' and now >= promotion.soaked_at then
  redis.call('HSET', key, 'status', 'queued', 'progress', '', 'published_at', now)
  redis.call('ZADD', prefix .. 'open:' .. task.queue, now + grace, task_id)
  redis.call('ZREM', prefix .. 'parked:' .. task.queue, task_id)
  answer = 'released'
end
tell(task.run_id, task_id, outcome, message, '')
redis.call('EXPIRE', key, retention)
redis.call('EXPIRE', prefix .. 'events:' .. (task.run_id or task_id), retention)
redis.call('PUBLISH', key, outcome)
return {answer, decision}
