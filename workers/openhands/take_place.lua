-- Takes one of a model's places, or renews the holder's lease on it.
-- args: prefix, model, holder, places, lease
--
-- lease: seconds.  Returns 1 if the holder has a place.
-- A sorted set of holders by the end of their lease: no library keeps a bounded number of expiring places.
local key, now = prefix .. 'model:places:' .. model, redis.call('TIME')
now = now[1] + now[2] / 1000000
redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
if not redis.call('ZSCORE', key, holder) and redis.call('ZCARD', key) >= tonumber(places) then return 0 end
redis.call('ZADD', key, now + lease, holder)
redis.call('EXPIRE', key, math.ceil(lease) * 2)
return 1
