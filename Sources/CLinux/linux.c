#include "malla_linux.h"
