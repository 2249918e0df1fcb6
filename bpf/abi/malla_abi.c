#include "malla_abi.h"
