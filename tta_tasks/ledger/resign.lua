-- Ends the election of a worker for a role, so that another one can be elected at once.
-- args: prefix, role, worker
local key = prefix .. role
if redis.call('GET', key) == worker then redis.call('DEL', key) end
