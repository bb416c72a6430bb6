// This file lets the declarations without a body in routes.go compile.
