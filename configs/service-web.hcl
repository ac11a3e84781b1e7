# A service of this machine, for a file of its own in the configuration folder,
# or for the command
#
#     muster services register configs/service-web.hcl
#
# Afterwards web.service.consul is its address, and so is
# primary.web.service.consul, because it has that tag.
service {
  # All instances of a service have the same name; the ID is unique on the
  # machine. Without an ID, the name is taken.
  name = "web"
  id   = "web-1"
  tags = ["primary", "v1"]
  port = 8080

  # Without an address, that of the machine is given to clients.
  # address = "10.0.0.5"

  # Free text, to be seen and searched in the catalog.
  meta {
    team    = "shop"
    version = "1.4.2"
  }

  # The instance's share of the load, as SRV records tell it: ten while its
  # checks pass, one while one of them warns.
  weights {
    passing = 10
    warning = 1
  }

  # The instance passes while this answers with a status of 2xx, warns with 429,
  # and is critical with anything else. Critical instances are not given to
  # anybody.
  check {
    id       = "web-health"
    name     = "HTTP on port 8080"
    http     = "http://127.0.0.1:8080/health"
    method   = "GET"
    interval = "10s"
    timeout  = "2s"

    header {
      User-Agent = ["muster"]
    }

    # One failure may be chance: only the third in a row counts.
    failures_before_critical = 3

    # An instance that has been critical for a day is not coming back.
    deregister_critical_service_after = "24h"
  }
}
