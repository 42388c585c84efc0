"""
Benchmark of exec: our service beside OpenSSH, asyncssh and a bare C{spawnProcess}, in one run.
"""
