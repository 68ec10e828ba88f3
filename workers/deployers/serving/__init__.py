"""Releases that are services: what keeps them running, and the switch that clients connect to.

A deployment writes down what should run and who is to get connections (:mod:`.states`), and looks on (:mod:`.client`).
The service supervisor (:mod:`.service_supervisor`), a process of its own that outlives the worker, makes it so: it runs
the services in the sandbox (:mod:`.service`) and hands each connection on (:mod:`.tcp_proxy`).
"""
