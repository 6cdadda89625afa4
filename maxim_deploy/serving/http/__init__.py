"""The small service: a picture in, a picture out, over HTTP.

    door -> body -> decode -> network -> encode -> send

One event loop talks to clients. Threads decode and encode. A `Restorer` runs the network and is the
only thing that puts pictures in order. For batching, several models and model versions there is
NVIDIA Triton.
"""
