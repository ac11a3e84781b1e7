package health

// Limits of a check. Checks of a node stand in the answer for each instance on
// it, so what they say is multiplied.
const (
	// MaxText is the longest name, remark or status of a check, in bytes.
	MaxText = 4 << 10
	// MaxOutput is the longest output of a check that the catalog takes, in bytes.
	// Agents keep less, see check_output_max_size.
	MaxOutput = 512 << 10
)
