export { type Role, ROLES } from './api-key.entity';
export { ApiKeysService } from './api-keys.service';
export { Allow, Public } from './auth.guard';
export { AuthModule } from './auth.module';
export { type Actor, type Call, CurrentCall, requireVersion } from './call';
