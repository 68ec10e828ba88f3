-- The ledger's time: this server's, in seconds since the epoch. No clock of another host is compared with it.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
