-- Elects a worker for a role, or keeps it elected.
-- args: prefix, role, worker, hold_ms
--
-- hold_ms: how long the worker is elected, in milliseconds; it may be kept elected until then.
-- Returns 1 if the worker is elected.
local key = prefix .. role
if redis.call('SET', key, worker, 'NX', 'PX', hold_ms) then return 1 end
if redis.call('GET', key) ~= worker then return 0 end
return redis.call('PEXPIRE', key, hold_ms)
