-- Whether the run goes on when a task of this stage fails.
local function is_optional(stage) return stage == 'generation' or stage == 'refactoring' end
