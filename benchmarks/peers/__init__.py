"""Other engines to measure beside hexgrid, each a process in a virtual environment of its own.

process.py starts one and asks it; its worker (vllm_worker.py, llama_worker.py) runs in the environment that
environment.py makes from the pinned file in requirements/. All get the same token ids, one of them at a time,
and their own clock counts.
"""
