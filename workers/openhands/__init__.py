"""OpenHands agents: their own environment and process, a sandboxed shell, bounds, and models that a fleet shares.

installation   the engine's own virtual environment
models         which models there are, and which is asked first
limits         what the fleet shares of a model: places, requests a minute, a circuit breaker, a run's money
conversations  folders that outlive an attempt, so that the next one continues
shell          where an agent's commands run
rpc            what the runner may ask of the worker: permission for a call, a command in the shell
runner         the one file that runs in the engine's environment, in a sandbox
supervision    one attempt of one agent, from its assignment to its outcome
agents         a piece of work done by whichever model can
"""
