// Functions without a body (see number.go) need a file of assembly in their package.
