local function ended(state) return state ~= 'queued' and state ~= 'parked' and state ~= 'running' end
