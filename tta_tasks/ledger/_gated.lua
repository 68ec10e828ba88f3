-- Whether a task of this kind begins only after its promotion was checked.
local function is_gated(kind) return kind == 'tta_tasks.deploy' end
