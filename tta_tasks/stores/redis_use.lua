-- Renews the expiry of an artifact, and takes it into the index.
-- args: prefix, digest, retention
--
-- Returns 1 if the artifact exists.
local artifact, sizes, total = prefix .. 'artifact:' .. digest, prefix .. 'artifact-sizes', prefix .. 'artifact-bytes'
if redis.call('EXPIRE', artifact, retention) == 0 then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', prefix .. 'artifacts', time[1] + time[2] / 1000000, digest)
local size = redis.call('STRLEN', artifact)
if redis.call('HSETNX', sizes, digest, size) == 1 then redis.call('INCRBY', total, size) end
for _, key in ipairs({prefix .. 'artifacts', sizes, total}) do redis.call('EXPIRE', key, retention) end
return 1
