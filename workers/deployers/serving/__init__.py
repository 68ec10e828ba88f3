"""Releases that are services: runs them, and forwards clients to the one in use.

A deployment (:mod:`.client`) writes the desired state (:mod:`.states`). The service supervisor
(:mod:`.service_supervisor`), a process of its own that outlives the worker, follows it: it runs the services in the
sandbox (:mod:`.service`), forwards connections to them (:mod:`.tcp_proxy`), and writes the observed state.
``tta serve`` (:mod:`.host_supervisor`) runs the supervisors of a host.
"""
