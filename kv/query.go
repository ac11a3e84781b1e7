package kv

// Get asks for one entry. The answer is an *[Entry], nil if there is none.
type Get struct {
	Key string `codec:"Key"`
}

// List asks for all entries whose keys begin with Prefix. The answer is an
// []*[Entry] in byte order of the keys.
type List struct {
	Prefix string `codec:"Prefix"`
}

// Keys asks for the keys that begin with Prefix, cut just after the first
// Separator that follows the prefix, each once. The answer is a []string in
// byte order. An empty Separator cuts nothing.
type Keys struct {
	Prefix    string `codec:"Prefix"`
	Separator string `codec:"Separator"`
}
