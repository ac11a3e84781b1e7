package health

import "github.com/muster-sd/muster/catalog"

// Register writes a node, an instance on it and checks, in this order and all
// or nothing. It stands here and not in package catalog because this is the
// lowest package that knows all three.
type Register struct {
	catalog.Registration `codec:"Registration"`
	Checks               []Check `codec:"Checks"`
}
