# Settings for trying Muster out on one machine:
#
#     muster agent -dev -config-file configs/dev.hcl -config-file configs/service-web.hcl
#
# -dev makes a server that leads itself at once, keeps everything in memory and
# listens on the loopback address only. What is said here goes on top of that.

# The name under which this machine stands in the catalog. Without it, the name
# of the host is taken.
node_name = "dev"

# Free text about the node, to be seen and searched in the catalog.
node_meta {
  purpose = "development"
}

# Two agents on one machine need different ports. These are the usual ones; -1
# switches one off.
ports {
  http = 8500
  dns  = 8600
}

dns_config {
  # How long resolvers may keep the address of a service. "*" is any service.
  service_ttl {
    "*" = "0s"
  }

  # Leave out instances with a check in state warning, too. Those in state
  # critical are never given.
  only_passing = false
}

# A check of the node itself, which somebody has to report on at least once a
# minute: PUT /v1/agent/check/pass/heartbeat
check {
  id     = "heartbeat"
  name   = "Heartbeat"
  notes  = "Reported by hand; turns critical after a minute of silence."
  ttl    = "60s"
  status = "passing"
}
