"""
Benchmark of file transfer: our service beside rsync, OpenSSH, nginx, vsftpd, Twisted's FTP server
and C{cp}, in one run.
"""
