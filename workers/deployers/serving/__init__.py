"""Releases that are services: what keeps them running, and the switch that clients connect to.

A deployment writes down what should run and who is to get connections (:mod:`.plan`), and looks on (:mod:`.front`). The
keeper (:mod:`.keeper`), a process of its own that outlives the worker, makes it so: it runs the services in the sandbox
(:mod:`.service`) and hands each connection on (:mod:`.switch`).
"""
