export { ApiKeysService } from './api-keys.service';
export { Allow, Public } from './auth.guard';
export { AuthModule } from './auth.module';
export { type Call, CurrentCall, requireVersion } from './call';
