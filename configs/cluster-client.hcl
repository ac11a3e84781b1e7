# An agent on a machine that has services or their clients, in the cluster of
# cluster-server.hcl:
#
#     muster agent -config-file configs/cluster-client.hcl -config-file configs/service-web.hcl
#
# It runs the checks of this machine's services, tells the servers of them, and
# answers HTTP and DNS for everybody on this machine.

datacenter = "dc1"
server     = false

# The servers, or any other agents.
retry_join     = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
retry_interval = "10s"

# What clients registered here is kept, so that it is there after a restart.
data_dir = "/var/lib/muster"

# The same key as the servers have, if they have one.
# encrypt = "..."

client_addr = "127.0.0.1"

# When the process is told to stop, the agent leaves the cluster, and its
# services with it. That suits machines that come and go. With false, others see
# it fail, and its services turn critical until it comes back.
leave_on_terminate = true

# Script checks from files of this machine, but not from anybody who reaches
# HTTP.
enable_local_script_checks = true

log_level = "info"
