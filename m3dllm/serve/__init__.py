"""A small local service: a form that extracts, and predictions inside Label Studio.

`service` starts it. `app` is the web application; `jobs` runs `m3dllm extract` in its own process for the form,
`label_studio` implements the ML backend protocol with a system that stays loaded.
"""
