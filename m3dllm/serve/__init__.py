"""A small local service: a form that extracts, and predictions inside Label Studio.

`service` starts it. `app` is the web application; `jobs` runs `m3dllm extract` in a process of its own for the form,
`label_studio` speaks the protocol of ML backends with a system that stays loaded.
"""
