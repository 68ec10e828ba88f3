-- When the reconciler looks at the task: `at` this time, or at the task's deadline if that is earlier. However alive
-- its worker is, a deadline must not go unnoticed.
local function next_check(task, at)
  return task.deadline and math.min(tonumber(task.deadline), tonumber(at)) or at
end
