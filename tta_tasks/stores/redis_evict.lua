-- Removes an artifact, unless it was used since.
-- args: prefix, digest, last_used
--
-- last_used: as it was read.  Returns the artifact's bytes, 0 if it was used meanwhile.
local index, sizes = prefix .. 'artifacts', prefix .. 'artifact-sizes'
if tonumber(redis.call('ZSCORE', index, digest)) ~= tonumber(last_used) then return 0 end
local size = tonumber(redis.call('HGET', sizes, digest) or 0)
redis.call('ZREM', index, digest)
redis.call('HDEL', sizes, digest)
redis.call('INCRBY', prefix .. 'artifact-bytes', -size)
redis.call('DEL', prefix .. 'artifact:' .. digest)
return size
